# Floating point in PTX: reads a file, writes a line "FILE: KERNEL: INSTRUCTION (N times)" for each kind of instruction,
# register or parameter of a floating-point type, moves included. Last "kernels N". Status 1 if there is a finding.
# Functions that are not inlined count like kernels.
#
# -v file=NAME -v taken=REGEX   as for opencl.awk
# -v divisions=PATH             the names of kernels that divide integers by a variable are written there
BEGIN { float = "[.](b?f(8|16|32|64)(x[0-9]+)?|tf32|e[0-9]m[0-9][a-z0-9]*)([^A-Za-z0-9]|$)" }
/^[ \t]*\/\// { next }
/[.](entry|func)[ \t]/ {
  entry = $0
  sub(/^.*[.](entry|func)[ \t]+([(][^)]*[)][ \t]*)?/, "", entry)
  sub(/[^A-Za-z0-9_$].*/, "", entry)
  is_taken = entry ~ taken || $0 ~ /[.]func[ \t]/
  if (is_taken) kernels++
}
is_taken && $0 ~ float {
  line = $0
  sub(/^[ \t{]*(@!?%p[0-9]+[ \t]+)?/, "", line)
  if (line ~ /^[.]/) match(line, float)
  else match(line, /^[a-z0-9_.:]+/)
  key = entry ": " (RSTART == 1 ? substr(line, 1, RLENGTH) : substr(line, 1, RSTART + RLENGTH - 1))
  if (!(key in times)) order[++findings] = key
  times[key]++
}
is_taken && /^[ \t]*(@!?%p[0-9]+[ \t]+)?(div|rem)[.][su](16|32|64)[ \t]/ { divides[entry] = 1 }
END {
  for (i = 1; i <= findings; i++) print file ": " order[i] " (" times[order[i]] " times)"
  if (divisions != "")
    for (entry in divides) print entry >divisions
  print "kernels " kernels + 0
  exit findings > 0
}
