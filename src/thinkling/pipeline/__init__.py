"""What a run is: recipe, runner, plan, doctor."""
