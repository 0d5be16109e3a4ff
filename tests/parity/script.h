/* Drawn programs: a list of calls over values, before any backend sees them. */
#ifndef QE_TESTS_PARITY_SCRIPT_H
#define QE_TESTS_PARITY_SCRIPT_H

#include "tests/parity/parity.h"

enum { SCRIPT_CALLS = 24, SCRIPT_VALUES = SCRIPT_CALLS * QE_MAX_OPERANDS };

typedef struct script_value {
  char name[32];
  qe_desc desc;
  qe_kind kind;
  qe_value view_of; /* the value whose memory it shows in another shape; -1: its own */
  bool bound;       /* in the caller's memory */
  bool input;       /* bound, and holds data before the run: what `filler` makes of `operand` */
  bool keep;        /* temporary to be read after the run */
  bool unread;      /* nothing has read it since its last write */
  int writes;       /* calls that write it */
  size_t at, end;   /* bound: bytes in the image, guards around as in parity_job */
  parity_case filler;
  int operand;
} script_value;

typedef struct script_call {
  qe_op op;
  qe_desc principal;
  qe_attrs attrs;
  qe_value value[QE_MAX_OPERANDS];
} script_call;

typedef struct parity_script {
  uint64_t seed;
  qe_desc map;
  int values, calls;
  script_value value[SCRIPT_VALUES];
  script_call call[SCRIPT_CALLS];
  size_t bytes; /* of the image of bound values */
} parity_script;

/* Calls of the classes ELEMENT, CHANNEL and QUANT over one map: chains that backends like to fuse and single ops, with
 * shared operands, sums over several calls, outputs that nobody reads, kept and bound ones, views of flattened maps. */
QE_CHECKED qe_status script_draw(uint64_t seed, parity_script *drawn);

/* The value whose memory it is. */
static inline qe_value script_base(const parity_script *of, qe_value id) {
  return of->value[id].view_of >= 0 ? of->value[id].view_of : id;
}

#endif
