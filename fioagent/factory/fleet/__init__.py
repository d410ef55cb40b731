"""The devices: who they are, what they are told, what they tell."""
