/* Drawn programs: a list of calls over values, before any backend sees them. */
#ifndef QE_TESTS_PARITY_SCRIPT_H
#define QE_TESTS_PARITY_SCRIPT_H

#include "tests/parity/parity.h"

enum { SCRIPT_CALLS = 24, SCRIPT_VALUES = SCRIPT_CALLS * QE_MAX_OPERANDS };
enum { SCRIPT_DRAWS = 100, SCRIPT_WINDOW_DRAWS = 101 }; /* substreams */

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
  qe_window window[2]; /* of its convolutions; no channels: it has none */
  int32_t outputs;     /* of its linear layers; 0: it has none */
  int values, calls;
  bool chained; /* while drawing: the next call belongs to a chain, and is not its first */
  script_value value[SCRIPT_VALUES];
  script_call call[SCRIPT_CALLS];
  size_t bytes; /* of the image of bound values */
} parity_script;

/* Calls of the classes ELEMENT, CHANNEL, QUANT, CONV and LINEAR over one map: chains that backends like to fuse and
 * single ops, with shared operands, sums over several calls, outputs that nobody reads, kept and bound ones, views of
 * flattened maps. */
QE_CHECKED qe_status script_draw(uint64_t seed, parity_script *drawn);

/* The windows of a script whose map is drawn. */
void script_windows_draw(uint64_t seed, parity_script *to);
/* The attributes of a convolution or a linear layer; false when the script has none. */
bool script_layer_draw(parity_draws *draws, const parity_script *of, qe_op op, script_call *call);
/* Is it one of those ops? */
bool script_is_layer(const qe_op_info *info);
/* How many products a layer's call adds up for each element of what it writes, at most. */
int64_t script_layer_terms(const parity_script *of, const script_call *call);
/* Divide weights by the square root of their number for an output, so that values stay in range through many layers. */
void script_weight_scale(const qe_desc *desc, float *values);

/* The value whose memory it is. */
static inline qe_value script_base(const parity_script *of, qe_value id) {
  return of->value[id].view_of >= 0 ? of->value[id].view_of : id;
}

#endif
