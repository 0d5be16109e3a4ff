# Floating point in machine code of NVIDIA GPUs: reads what `cuobjdump -sass` prints, writes a line
# "FILE: KERNEL: INSTRUCTION (N times)" for each finding. Last "kernels N". Status 1 if there is a finding.
#
# -v file=NAME -v taken=REGEX   as for opencl.awk
# -v divisions=PATH             names of kernels whose PTX divides integers by a variable, a line each
#
# Two things are allowed, both made by ptxas of integer PTX, both exact:
# - a division of integers by a variable, which PTX defines exactly, starts from an approximate reciprocal that integer
#   instructions then correct: I2F.RP, MUFU.RCP, F2I.TRUNC; only in kernels whose PTX has such a division;
# - HFMA2.MMA R, -RZ, RZ, a, b (the product of two zeros) writes the constant made of a and b.
BEGIN {
  float = "^U?(F|D|H)[A-Z0-9]+|^MUFU|^I2FP?|^UI2FP?|^[A-Z]*GMMA[.].*(F16|F32|BF16|TF32|E4M3|E5M2)"
  integer = "^(U?FLO|FENCE|DEPBAR|DEBUG|DMUX|U?F2IP)$"
  reciprocal = "^(I2F([.][US](16|32|64))?[.]RP|MUFU[.]RCP|F2I([.]FTZ)?[.][US](32|64)[.]TRUNC([.]NTZ)?)$"
  while (divisions != "" && (getline line <divisions) > 0) divides[line] = 1
}
/Function : / {
  name = $NF
  is_taken = name ~ taken
  if (is_taken) kernels++
  next
}
is_taken && /^[ \t]*\/\*[0-9a-f]+\*\// {
  line = $0
  sub(/^[ \t]*\/\*[0-9a-f]+\*\/[ \t{]*/, "", line)
  sub(/^@!?U?P(T|[0-9]+)[ \t]+/, "", line)
  code = line
  sub(/[ \t;].*/, "", code)
  root = code
  sub(/[.].*/, "", root)
  if (code !~ float || root ~ integer) next
  if (code ~ reciprocal && (name in divides)) next
  if (code ~ /^HFMA2/ && line ~ /^HFMA2[.A-Z0-9_]*[ \t]+R[0-9]+, -RZ, RZ, /) next
  key = name ": " code
  if (!(key in times)) order[++findings] = key
  times[key]++
}
END {
  for (i = 1; i <= findings; i++) print file ": " order[i] " (" times[order[i]] " times)"
  print "kernels " kernels + 0
  exit findings > 0
}
