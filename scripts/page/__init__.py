"""The page of app.py: what it shows, and the commands of this project that it starts."""
