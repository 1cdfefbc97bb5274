"""Soup recipes: functions from a pool of ingredients and a judge to a soup; no data loading and no devices."""
