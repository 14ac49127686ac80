"""Figures: values in; SVG, PNG or lines of text out. Reports and web pages draw with them."""
