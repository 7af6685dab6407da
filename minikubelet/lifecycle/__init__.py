"""What should happen next to a Pod, as pure functions of what is wanted, what was seen and the time."""
