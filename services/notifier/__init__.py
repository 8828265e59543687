"""Owns people and the mails that are sent to them."""
