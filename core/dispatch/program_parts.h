/* What program.c, plan.c, run.c and profile.c share; nobody else includes this. */
#ifndef QE_DISPATCH_PROGRAM_PARTS_H
#define QE_DISPATCH_PROGRAM_PARTS_H

#include "core/dispatch/program.h"

typedef struct qe_value_info {
  char *name;
  qe_desc desc;
  bool keep, written;
  bool bound;        /* lies in the caller's memory; set by the plan */
  qe_buffer *buffer; /* bound values: the caller's; temporaries: the arena once planned, NULL when elided */
  size_t offset;
  int32_t first, last; /* steps that first write and last touch it; -1: unused */
  int32_t first_call, last_call;
  qe_value root;    /* the value whose memory it shares (itself, unless written in place) */
  qe_value view_of; /* -1: none */
  bool viewed;      /* is or has a view: neither elided nor written in place */
  bool elided;      /* lives and dies inside one fused run: no memory */
} qe_value_info;

typedef struct qe_step {
  size_t first; /* index of the first call */
  int count;
  const qe_fusion *fusion; /* NULL: one call, `bound` */
  void *fusion_state;
  qe_bound_call bound;
} qe_step;

typedef struct qe_operand_values {
  qe_value at[QE_MAX_OPERANDS];
} qe_operand_values;

struct qe_program {
  qe_device *device;
  char *name;
  qe_value_info *value;
  size_t values, value_capacity;
  qe_call *call;
  size_t calls, call_capacity;
  qe_operand_values *operand_value; /* of each call */
  size_t operand_capacity;
  qe_step *step;
  size_t steps, step_capacity;
  qe_buffer *arena;
  bool borrowed;          /* the arena is the caller's */
  bool planned;           /* or tried to be */
  bool ready;             /* planned with success: can be run */
  int tries;              /* how often a capture may still fail; 0: runs are not captured */
  void *captured;         /* the device's record of a whole run; NULL: none */
  const qe_queue *warmed; /* the queue that the program last ran on step by step, from its first to its last */
};

/* run.c: one step, with the program and the call in the message where it fails. */
QE_CHECKED qe_status qe_step_run(qe_program *program, size_t step, qe_queue *queue);
void qe_program_drop_captured(qe_program *program);
/* Whether runs are captured: when the device can, and no step runs on the host or says that it cannot be. */
void qe_program_plan_capture(qe_program *program);

#endif
