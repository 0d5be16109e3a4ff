# Floating point in disassembled objects: reads what `objdump -d -r -w` (x86: -M intel) prints, writes a line
# "OBJECT: FUNCTION: INSTRUCTION (N times)" for each finding, and last "functions N". Status 1 if there is a finding.
#
# Whatever has the form of a floating-point instruction and is not in the list of those that only carry bits counts, so
# an instruction that this file has never heard of fails the test rather than passing it.

BEGIN {
  # x86: the last letters of what works on floats. Instructions whose names start with p or vp work on integers, but for
  # those of 3DNow!.
  x86_form = "(ss|sd|ps|pd|sh|ph|bf16|pbf16|hf8|bf8)$"
  x86_3dnow = "^(pf|pi2f)"
  # Loads, stores, register moves; bitwise logic; shuffles, blends, broadcasts, compressions; sign bits to an integer.
  # Compilers use them on integers, for they are shorter or wider than their integer twins. No arithmetic, no conversion.
  x86_carry = "^v?(mov|movu|mova|movnt|movl|movh|movlh|movhl|movmsk|and|andn|or|xor|shuf|unpckl|unpckh|insert|extract|" \
              "blend|blendv|blendm|broadcast|maskmov|compress|expand|test|gatherd|gatherq|scatterd|scatterq|" \
              "gatherpf0d|gatherpf0q|gatherpf1d|gatherpf1q|scatterpf0d|scatterpf0q|scatterpf1d|scatterpf1q)(ss|sd|ps|pd|sh)$"
  x86_other = "^(clflush|lss|rdsspd|incsspd)$" # end like one, and have nothing to do with floats
  # aarch64: all of f..., conversions, and the bf16 ones. A register move is one, and so is a select.
  arm_form = "^(f[a-z]|[su]cvtf|bfdot|bfmmla|bfmla|bfcvt|bfmops|bfmopa|bfadd|bfsub|bfmul|bfm(in|ax)|bfclamp)"
  arm_carry = "^(fmov|fcsel|ffr|rdffr)$"
  # Functions of the libraries that take or give floats, or stand in for such instructions.
  library = "^(__(add|sub|mul|div|neg|powi|cmp|eq|ne|lt|le|gt|ge|unord)[bdhkstx][cf][0-9]?|__float[a-z]+|__fix[a-z]+|" \
            "__extend[a-z0-9]+|__trunc[a-z0-9]+f[0-9]?|strto(f|d|ld)|atof|difftime|drand48|" \
            "(sqrt|cbrt|hypot|pow|exp|exp2|expm1|exp10|log|log2|log10|log1p|sin|cos|tan|asin|acos|atan|atan2|sinh|cosh|" \
            "tanh|floor|ceil|round|rint|nearbyint|trunc|lrint|llrint|lround|llround|fabs|fmin|fmax|fma|fmod|remainder|" \
            "ldexp|scalbn|frexp|modf|erf|erfc|lgamma|tgamma)[fl]?)$"
}

function found(what, key) {
  key = object ": " name ": " what
  if (!(key in times)) order[++findings] = key
  times[key]++
}

/: +file format / {
  object = $0
  sub(/: +file format.*/, "", object)
  sub(/^.*\.dir\//, "", object)
  arm = /aarch64/
  if (!arm && !/x86-64/) {
    print object ": neither x86-64 nor aarch64"
    unknown = 1
  }
  next
}
/^[0-9a-f]+ <.*>:$/ {
  name = $2
  gsub(/[<>:]/, "", name)
  functions++
  next
}
/R_[A-Z0-9_]+/ && match($0, /R_[A-Z0-9_]+[ \t]+[A-Za-z_][A-Za-z0-9_.]*/) {
  symbol = substr($0, RSTART, RLENGTH)
  sub(/^R_[A-Z0-9_]+[ \t]+/, "", symbol)
  if (symbol ~ library) found("a call of " symbol)
}
/^ *[0-9a-f]+:\t/ {
  sub(/^ *[0-9a-f]+:\t/, "")
  words = split($0, word, /[ \t]+/)
  for (i = 1; i < words && (word[i] == "" || word[i] ~ /^(lock|rep|repz|repnz|bnd|notrack|data16|addr32|cs|ds|es|fs|gs|ss|rex(\.[A-Z]*)?|\{[a-z]*\})$/); i++) {}
  code = word[i]
  if (arm) {
    sub(/\..*/, "", code)
    if (code ~ arm_form && code !~ arm_carry) found(code)
  } else if (code ~ /^v?cvt/ || code ~ /^f/ || code ~ x86_3dnow) {
    if (code !~ /^fs$/) found(code)
  } else if (code ~ x86_form && code !~ /^v?p/ && code !~ x86_carry && code !~ x86_other) {
    found(code)
  }
}

END {
  for (i = 1; i <= findings; i++) print order[i] " (" times[order[i]] " times)"
  print "functions " functions + 0
  exit findings > 0 || unknown
}
