"""The door: hears of installs and uninstalls; owns tenants and their secrets."""
