/* The references: one plain function an op, declared from core/ops.def. A row without its function does not link.
 *
 * They take host operands that qe_call_check has accepted, accumulate in double, and are written to be read, not to be
 * fast: the contract of an op stands above its function. */
#ifndef QE_CPU_REF_REF_H
#define QE_CPU_REF_REF_H

#include "core/base/op.h"

#ifdef __cplusplus
extern "C" {
#endif

#define QE_OP(name, ...) qe_status qe_ref_##name(const qe_call *call);
#include "core/ops.def"
#undef QE_OP

/* The reference of an op; never NULL. */
typedef qe_status (*qe_ref_function)(const qe_call *call);
qe_ref_function qe_ref_get(qe_op op);

#ifdef __cplusplus
}
#endif
#endif
