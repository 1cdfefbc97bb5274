"""The backbone family `baseline`: one small convolutional network."""
