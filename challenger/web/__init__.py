"""What people and programs look at: the API and the pages. A process of its own, without a key."""
