"""What a run will need and cost, worked out before anything is started."""
