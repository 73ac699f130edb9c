"""The page at `/`: what is served and how it fares, and a form to try a prediction. It runs nothing in the browser."""
