# Floating point in preprocessed OpenCL C: reads a file's text (cpp -P), writes a line "FILE: KERNEL: FUNCTION: WORD" for
# each float in a kernel or in what it uses: functions, types, tables. Last "kernels N". Status 1 if there is a finding.
#
# -v file=NAME      for the messages
# -v taken=REGEX    the kernels that are looked at
BEGIN {
  type = "^(float|double|half|bfloat16|bfloat)([0-9]+|[0-9]+x[0-9]+)?$"
  number = "^([0-9]+[.][0-9]*|[.][0-9]+|[0-9]+[eE])|^0[xX][0-9a-fA-F.]+[pP]"
  conversion = "^(convert_|as_|read_image|write_image)(float|double|half|f$|h$)|^native_|^half_|^v(load|store)a?_half|^intel_.*bfloat"
  # Built-in functions that are of floats alone; an own function of that name is another.
  split("acos acosh asin asinh atan atan2 cbrt ceil copysign cos cosh cospi cross degrees distance dot erf erfc exp exp10 exp2 " \
        "expm1 fabs fdim floor fma fmax fmin fmod fract frexp hypot ilogb isequal isfinite isinf isnan isnormal ldexp length " \
        "lgamma log log10 log1p log2 logb mad maxmag minmag mix modf nan nextafter normalize pow pown powr radians " \
        "remainder remquo rint rootn round rsqrt sign signbit sin sincos sinh sinpi smoothstep sqrt step tan tanh tanpi " \
        "tgamma trunc", word, " ")
  for (i in word) builtin[word[i]] = 1
}

# The words of chunk c: what it refers to, and the floats in it.
function digest(c, text, rest, w) {
  rest = text
  while (match(rest, /[A-Za-z0-9_.]+/)) {
    w = substr(rest, RSTART, RLENGTH)
    rest = substr(rest, RSTART + RLENGTH)
    if (w ~ type || w ~ number || w ~ conversion || (w in builtin && rest ~ /^[ \t]*[(]/)) suspects[c, ++suspected[c]] = w
    # s.member is two words
    while (w ~ /[A-Za-z_]/ && match(w, /[A-Za-z_][A-Za-z0-9_]*/)) {
      uses[c, ++used[c]] = substr(w, RSTART, RLENGTH)
      w = substr(w, RSTART + RLENGTH)
    }
  }
}

# A chunk is one definition at the top level. Its name: of a type the last word, else the word before ( [ or =.
function take(text, plain, what, at) {
  if (text !~ /[^ \t;]/) return
  plain = text
  while ((at = index(plain, "__attribute__")) > 0)
    if (!sub(/__attribute__[ \t]*[(][(][^()]*([(][^()]*[)][^()]*)*[)][)]/, " ", plain)) break
  chunks++
  digest(chunks, plain)
  what = plain
  if (plain ~ /^[ \t]*typedef/) {
    sub(/[ \t]*;[ \t]*$/, "", what)
    sub(/^.*[^A-Za-z0-9_]/, "", what)
  } else if (plain ~ /^[ \t]*enum/) {
    what = "" # constants are integers, whatever they are called
  } else {
    sub(/[ \t]*[([=;].*/, "", what)
    sub(/^.*[^A-Za-z0-9_]/, "", what)
  }
  name[chunks] = what
  if (what != "") chunk_of[what] = chunks
  if (plain ~ /__kernel/) kernel[++kernels] = chunks
}

/^[ \t]*#/ { next }
{
  gsub(/"([^"\\]|\\.)*"/, " ")
  line = $0
  while (match(line, /[{};]/)) {
    mark = substr(line, RSTART, 1)
    text = text substr(line, 1, RSTART)
    line = substr(line, RSTART + 1)
    if (mark == "{" && depth++ == 0) is_function = text !~ /(typedef|=)/ && text ~ /[(]/
    if (mark == "}") depth--
    if (depth == 0 && (mark == ";" || (mark == "}" && is_function))) {
      take(text)
      text = ""
      is_function = 0
    }
  }
  text = text line " "
}

# The floats of chunk c, each once; what the file defines itself is no built-in function.
function floats_of(c, i, w, said, list) {
  for (i = 1; i <= suspected[c]; i++) {
    w = suspects[c, i]
    if (w in chunk_of || index(said, " " w " ")) continue
    said = said " " w " "
    list = list " " w
  }
  return list
}

# What kernel k reaches, depth first.
function reach(c, k, i, list) {
  if ((c, k) in reached) return
  reached[c, k] = 1
  list = floats_of(c)
  if (list != "") {
    print file ": " name[k] ": " name[c] ":" list
    findings++
  }
  for (i = 1; i <= used[c]; i++)
    if (uses[c, i] in chunk_of) reach(chunk_of[uses[c, i]], k)
}

END {
  for (i = 1; i <= kernels; i++)
    if (name[kernel[i]] ~ taken) {
      looked++
      reach(kernel[i], kernel[i])
    }
  print "kernels " looked + 0
  exit findings > 0
}
