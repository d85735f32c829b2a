"""What one protocol's logs and calls mean in neutral words: ``base`` says what an adapter answers, one module each."""
