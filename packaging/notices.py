FILE="x"
