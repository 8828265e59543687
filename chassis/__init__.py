"""The plumbing every service stands on; knows no tenant's business."""
