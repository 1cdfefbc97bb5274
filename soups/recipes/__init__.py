"""Soup recipes: functions from a pool of ingredients and a judge to a soup; they know no data and no devices."""
