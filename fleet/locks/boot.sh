# Reads the program from standard input, up to the line `#end`, and runs it; the lines after it are the program's own.
# So no process list shows a long text, and what follows on standard input is not read too early.
FLEET_LOCK='' line=''
while IFS= read -r line && [ "$line" != '#end' ]; do
  FLEET_LOCK="$FLEET_LOCK$line
"
done
[ "$line" = '#end' ] || exit 1
eval "$FLEET_LOCK"
