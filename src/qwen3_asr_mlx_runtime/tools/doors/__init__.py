"""What the doors have in common: serve and wyoming."""
