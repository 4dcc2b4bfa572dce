"""What goes wrong in practice on people's machines, each as a row of the environment check; nothing here raises."""
