/* Which feature maps of two networks are compared. */
#ifndef QE_GRAPH_HINTS_H
#define QE_GRAPH_HINTS_H

#include "core/graph/lower.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { QE_MOST_HINTS = 16 };

/* `where`: "stages" (or NULL), the last non-linearity at each size of map; "last", that at the smallest; or nodes by
 * name, "NAME" or "NAME=NAME" of the twin, with commas between. Of QE_HINT_CODES the first node is the quantiser, if
 * any: where a coarser code is made of a map, that one. QE_USAGE with the name where there is no such node, QE_SHAPE
 * where maps differ in what the form does not allow. `hint` has QE_MOST_HINTS places. */
QE_CHECKED qe_status qe_hints_find(const qe_graph *own, const qe_graph *twin, qe_hint_form form, const char *where,
                                   qe_hint *hint, int *hints);

#ifdef __cplusplus
}
#endif
#endif
