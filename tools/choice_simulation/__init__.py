"""Choice simulation: how often each rule that chooses by validation images takes a worse model."""
