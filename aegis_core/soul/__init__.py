"""The gate and the rotation: their maths and nothing else."""
