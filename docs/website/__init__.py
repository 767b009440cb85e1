"""What the documentation site is made with: its pictures, its list of options, its links."""
