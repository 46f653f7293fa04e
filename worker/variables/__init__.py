"""What an environment variable may hold: kinds of values, the table of all settings, `.env`."""
