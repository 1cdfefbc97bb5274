"""Figures, drawn with matplotlib and plotly from arrays and files."""
