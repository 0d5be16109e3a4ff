/* The table of references. */
#include "cpu_ref/ref.h"

static const qe_ref_function table[QE_OPS] = {
#define QE_OP(name, ...) qe_ref_##name,
#include "core/ops.def"
#undef QE_OP
};

qe_ref_function qe_ref_get(qe_op op) {
  return table[op];
}
