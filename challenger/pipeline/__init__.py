"""observe → sample → replay → confirm → file → follow: each stage reads rows, does one thing and writes rows."""
