"""Commands that find directions, steer, transfer, erase and probe."""
