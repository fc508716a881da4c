"""Studies: Ray Tune searches the class weights over one set of shards."""
