"""`keepword events`: looks at what services said, and lets one of them hear or say it again."""
