"""How Keepword is brought to a cluster: image, chart, compose file. Nothing here runs in a service."""
