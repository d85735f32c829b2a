"""Which commitments are looked at, why providers cannot know it, and how anyone can check it afterwards. Pure."""
