"""What dataset plugins say, what is wrong with a dataset, getting one, and how its tracks are split."""
