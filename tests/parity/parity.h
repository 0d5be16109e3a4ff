/* The parity harness: every backend x implementation x op x drawn shape and attributes against cpu_ref.
 *
 * Cases derive from the rows of core/ops.def: cases.c draws the principal shape and the attributes of a row's shape
 * class, fill.c the values of an operand kind, run.c sends a case through one implementation, compare.c judges,
 * report.c counts, sweep.c goes over a backend, specials.c does so with NaN and infinities, programs.c compares planned
 * programs, populations.c integer networks and their engines, trainings.c short trainings, queues.c what two queues do
 * at the same time; faults.c proves (with faulty.c and faulty_engine.c) that the harness can fail. */
#ifndef QE_TESTS_PARITY_H
#define QE_TESTS_PARITY_H

#include "core/base/op.h"
#include "core/base/rng.h"
#include "core/dispatch/program.h"

#include <stdio.h>

/* ---- draws: words of one Philox stream ---- */

typedef struct parity_draws {
  uint64_t seed, next;
  qe_philox block;
  int left;
} parity_draws;

/* `substream` separates what one seed draws for different purposes. */
parity_draws parity_draws_start(uint64_t seed, uint32_t substream);
uint32_t parity_word(parity_draws *draws);
int32_t parity_range(parity_draws *draws, int32_t low, int32_t high); /* both ends included */
float parity_real(parity_draws *draws);                               /* in (0, 1) */
bool parity_chance(parity_draws *draws, int32_t percent);
int32_t parity_pick(parity_draws *draws, const int32_t *list, size_t count);
#define PARITY_PICK(draws, list) parity_pick(draws, list, sizeof(list) / sizeof(list)[0])

/* ---- cases ---- */

#define PARITY_FILL_LIST(X)                                                                                            \
  X(LOW, "low")         /* near the negative end, little spread */                                                     \
  X(HIGH, "high")       /* near the positive end */                                                                    \
  X(RANDOM, "random")   /* bell-shaped around 0 */                                                                     \
  X(MIXED, "mixed")     /* magnitudes over 24 binades */                                                               \
  X(TIES, "ties")       /* halves of the quantiser's step, ends of the clamp, many equal values */                     \
  X(SMALL, "small")     /* zeros of both signs and denormals */                                                        \
  X(LARGE, "large")     /* as large as intermediate results allow */                                                   \
  X(SPECIAL, "special") /* random with NaN and infinities, in specials.c's pass only */

typedef enum parity_fill {
#define X(id, name) PARITY_FILL_##id,
  PARITY_FILL_LIST(X)
#undef X
      PARITY_FILLS
} parity_fill;

typedef struct parity_case {
  qe_op op;
  uint64_t seed;
  int32_t fill;      /* enum parity_fill */
  qe_desc principal; /* descriptor of the op's principal operand */
  qe_attrs attrs;
} parity_case;

/* The case (op, seed); the same on every machine. */
void parity_case_draw(qe_op op, uint64_t seed, parity_case *drawn);
/* Attributes for a map of a shape class (ELEMENT, CHANNEL and QUANT need no particular map). */
void parity_attrs_draw(qe_shape_class shape_class, parity_draws *draws, const qe_desc *map, qe_attrs *attrs);
/* A map of at most `limit` elements, of one of the families (kind of shape); any number is a family. */
qe_desc parity_map_draw(parity_draws *draws, uint64_t family, int64_t limit);

enum { PARITY_FULL_TEXT = 1024 };
/* "conv2d seed=123", or the full text when something was replaced; PARITY_FULL_TEXT bytes. */
char *parity_case_text(const parity_case *from, char *text);
/* The same with everything that was drawn, for regress.txt: it stays the same case when the generators change. */
char *parity_case_full_text(const parity_case *from, char *text);
/* Draw what `OP seed=N` says, then replace what further KEY=VALUE say. */
QE_CHECKED qe_status parity_case_parse(const char *text, parity_case *parsed);

/* ---- values ---- */

/* Values of operand `operand` (its kind decides) into target; `variant` 0 is the case, others are other values. */
void parity_fill_operand(const parity_case *from, int operand, const qe_desc *desc, uint32_t variant, void *target);
/* Replace some values of an operand by NaN and infinities, where its op defines what they give. */
void parity_special_fill(const parity_case *from, int operand, uint32_t variant, int64_t count, float *values);
/* Is a written operand's value specified for the case's inputs? */
bool parity_special_judged(const parity_case *drawn, int operand);
/* Bytes that show when they are read or kept: NaN patterns and random bits, different in every round. */
void parity_fill_garbage(uint64_t round, void *target, size_t bytes);
/* NaN patterns for f32, random bits for other types. */
void parity_fill_unwritten(uint64_t round, const qe_desc *desc, void *target);

/* ---- comparison ---- */

typedef struct parity_difference {
  bool differs;
  bool special;  /* NaN or infinity on one side only */
  int64_t index; /* first element that is not within the bound */
  double got, wanted;
  double error; /* normalised squared error; 0 for integers */
} parity_difference;

/* f32: normalised squared error sum (a - b)^2 / sum b^2 <= bound, and NaN and infinities in the same places; bound 0:
 * equal as numbers (-0 equals +0, NaN equals NaN). Other types: equal bytes.
 *
 * A sum that cancels cannot be judged by what is left of it: sum b^2 is taken to be at least PARITY_LEFT of the same
 * sum over `magnitudes`, the results for inputs without signs (NULL: none). `floor` is the size of an element that is
 * as good as 0: n * floor^2 is added to sum b^2. */
#define PARITY_LEFT 1e-5
parity_difference parity_compare(const qe_desc *desc, const void *got, const void *wanted, double bound,
                                 const void *magnitudes, double floor);
/* Run cpu_ref on copies of a host call's operands whose f32 inputs have lost their signs; results[i] becomes the copy
 * of operand i. To be freed with parity_magnitudes_free whatever is returned. */
QE_CHECKED qe_status parity_magnitudes(const qe_call *call, void **results);
void parity_magnitudes_free(void **results);

/* ---- report ---- */

/* What can be wrong, with the words a failure starts with. */
#define PARITY_WRONG_LIST(X)                                                                                           \
  X(VALUE, "wrong value")                                                                                              \
  X(SPECIAL, "NaN or infinity in the wrong place")                                                                     \
  X(AFTER, "wrote past the end of an operand")                                                                         \
  X(BEFORE, "wrote before the start of an operand")                                                                    \
  X(READ_ONLY, "changed a read-only operand")                                                                          \
  X(REPEAT, "two runs differ")                                                                                         \
  X(THREADS, "result depends on the number of threads")                                                                \
  X(IN_PLACE, "in place differs from out of place")                                                                    \
  X(STATUS, "call failed")                                                                                             \
  X(CHOICE, "dispatcher did not take the first implementation that accepts")                                           \
  X(UNLISTED, "refusal not listed in refusals.txt")                                                                    \
  X(NEVER_RAN, "never ran")                                                                                            \
  X(FUSION, "fused and unfused runs differ")                                                                           \
  X(ARENA, "result depends on the memory plan")

typedef enum parity_wrong {
#define X(id, text) PARITY_##id,
  PARITY_WRONG_LIST(X)
#undef X
      PARITY_WRONGS
} parity_wrong;

/* One row of the coverage table: an implementation (or fusion) of an op. */
typedef struct parity_cell {
  const char *backend, *op, *impl;
  int64_t ran, refused, failed;
  int64_t thread_differences; /* results that changed with the number of threads, where that is allowed */
  bool excused;               /* it may refuse everything on this machine */
  double worst, bound;        /* normalised squared error */
} parity_cell;

typedef struct parity_report {
  FILE *out; /* failures, tables and the closing line */
  bool verbose;
  int64_t passed, failed;
  int64_t wrong[PARITY_WRONGS];
  parity_cell **cells;
  size_t cell_count, cell_capacity;
} parity_report;

void parity_report_start(parity_report *report, FILE *out);
void parity_report_end(parity_report *report);
/* The row (backend, op, impl), made when new; NULL without memory. Names must outlive the report. */
parity_cell *parity_report_cell(parity_report *report, const char *backend, const char *op, const char *impl);

#define PARITY_ORACLE "oracle" /* backend of the rows of cpu_ref itself */

enum { PARITY_SHOWN = 3 }; /* failures printed in full for one op x implementation */
/* Count a failure of a cell and print it: what, where, then the lines that `format` makes, then the command to see it
 * again (`rerun` is the text for --case; NULL: none). */
void parity_report_wrong(parity_report *report, parity_wrong wrong, parity_cell *cell, const char *rerun,
                         const char *format, ...) QE_PRINTF(5, 6);
/* The coverage table, then "N passed, N failed"; the status to exit with. */
int parity_report_close(parity_report *report);

/* What runs now, for the last words of a process that a signal ends. */
void parity_crash_note(const char *backend, const char *impl, const char *rerun);
void parity_crash_install(void);

/* ---- a backend under test ---- */

/* The same device opened with all threads, with 1 and with 3; twice where its memory is not the host's. */
enum { PARITY_DEVICES = 3 };

typedef struct parity_target {
  const char *name;
  int devices;
  qe_device *device[PARITY_DEVICES];
  qe_queue *queue[PARITY_DEVICES];
} parity_target;

typedef qe_status (*parity_open)(void *context, const qe_open_options *options, qe_device **device);
QE_CHECKED qe_status parity_target_open(parity_target *target, const char *name, parity_open open, void *context);
void parity_target_close(parity_target *target);

typedef struct parity_lines {
  char *text;
  char **line; /* without comments and blank lines */
  size_t count, capacity;
} parity_lines;

/* The lists beside the harness. */
typedef struct parity_lists {
  parity_lines refusals; /* what implementations may refuse and where thread counts may show; see the file's head */
  parity_lines regress;  /* one case a line for every past bug */
} parity_lists;

QE_CHECKED qe_status parity_lists_load(const char *folder, parity_lists *lists);
void parity_lists_free(parity_lists *lists);
/* Is there a line `class backend op impl reason` (patterns of fnmatch; reason NULL: not looked at)? */
bool parity_is_allowed(const parity_lists *lists, const char *class, const parity_cell *cell, const char *reason);

/* One case with its inputs and what cpu_ref makes of them. Every operand lies in one image between guard zones:
 * [start, at) guard, [at, end) operand, [end, next start) guard. */
enum { PARITY_GUARD = 256 }; /* bytes */

typedef struct parity_job {
  parity_case drawn;
  const qe_op_info *info;
  qe_desc desc[QE_MAX_OPERANDS];
  size_t start[QE_MAX_OPERANDS + 1], at[QE_MAX_OPERANDS], end[QE_MAX_OPERANDS];
  size_t bytes;
  uint8_t *values, *other;        /* inputs: the case's, and others to run before */
  uint8_t *expected;              /* after cpu_ref */
  uint8_t *initial, *got, *first; /* one run: before and after; after the first run */
  void *magnitudes[QE_MAX_OPERANDS];
} parity_job;

/* Draw the inputs and run cpu_ref. QE_SHAPE when the case's shapes do not fit. */
QE_CHECKED qe_status parity_job_start(parity_job *job, const parity_case *drawn, parity_report *report);
void parity_job_end(parity_job *job);
/* The case through one implementation of the target (NULL: no choice, which is cpu_ref where the op has none). */
void parity_job_run(parity_job *job, const parity_target *target, const char *impl, const parity_lists *lists,
                    parity_report *report, parity_cell *cell);
/* Two cases through the implementations that the dispatcher takes, on two queues of the target's first device: both
 * are on their way before either is waited for, a few times. */
void parity_job_together(parity_job *a, parity_job *b, const parity_target *target, qe_queue *other,
                         parity_report *report, parity_cell *cell);
/* Does the dispatcher take the first implementation of the list that accepts? */
void parity_job_choice(parity_job *job, const parity_target *target, parity_report *report, parity_cell *cell);

typedef struct parity_options {
  const char *backend, *impl, *op, *only_case; /* NULL: all */
  uint64_t seed;                               /* of the first case */
  int cases;                                   /* of each op */
  int programs, populations, trainings, queues;
  int specials;   /* cases of each op with NaN and infinities */
  int most_bytes; /* cases of more are left out; 0: none are */
} parity_options;

/* A part of the harness, on one backend. */
typedef qe_status (*parity_part)(const parity_target *target, const parity_options *options, const parity_lists *lists,
                                 parity_report *report);
/* All ops, implementations and cases that the options name on one backend. */
QE_CHECKED qe_status parity_sweep(const parity_target *target, const parity_options *options, const parity_lists *lists,
                                  parity_report *report);
/* One case through all implementations of its op that the options name. */
QE_CHECKED qe_status parity_case_run(const parity_target *target, const parity_case *drawn,
                                     const parity_options *options, const parity_lists *lists, parity_report *report);
/* As the sweep, with NaN and infinities as inputs of the ops that define what these give; its cases have fill=special.
 */
QE_CHECKED qe_status parity_specials(const parity_target *target, const parity_options *options,
                                     const parity_lists *lists, parity_report *report);
/* The same for random programs ("program seed=N" is the case). */
QE_CHECKED qe_status parity_programs(const parity_target *target, const parity_options *options,
                                     const parity_lists *lists, parity_report *report);

/* Random integer networks with candidates on every engine ("population seed=N" is the case). */
#define PARITY_POPULATION "(population)"
QE_CHECKED qe_status parity_populations(const parity_target *target, const parity_options *options,
                                        const parity_lists *lists, parity_report *report);
/* A few steps of every method on a small network ("training seed=N" is the case). */
#define PARITY_TRAINING "(training)"
QE_CHECKED qe_status parity_trainings(const parity_target *target, const parity_options *options,
                                      const parity_lists *lists, parity_report *report);
/* Before an op's name in faults.c: the pass with NaN and infinities, of that op. */
#define PARITY_SPECIAL_OF "special "
/* Pairs of cases on two queues of one device at the same time ("queues seed=N" is the case). */
#define PARITY_QUEUES "(queues)"
QE_CHECKED qe_status parity_queues(const parity_target *target, const parity_options *options,
                                   const parity_lists *lists, parity_report *report);

/* ---- the harness's own test ---- */

/* A backend that computes with cpu_ref, and wrongly while a fault is selected. */
typedef enum parity_fault {
  PARITY_FAULT_NONE,
  PARITY_FAULT_OFF_BY_ONE,       /* one element one off */
  PARITY_FAULT_SHIFTED,          /* one element of a bounded op slightly off */
  PARITY_FAULT_MISSING_TAIL,     /* the last element is not written */
  PARITY_FAULT_PAST_END,         /* one element written behind the operand */
  PARITY_FAULT_BEFORE_START,     /* one element written before the operand */
  PARITY_FAULT_READ_ONLY,        /* an input changed */
  PARITY_FAULT_READ_PAST_END,    /* what lies behind an input is used */
  PARITY_FAULT_RACE,             /* every other run differs, within the bound */
  PARITY_FAULT_STALE,            /* results of the first run are given again */
  PARITY_FAULT_THREADS,          /* differs with one thread, within the bound */
  PARITY_FAULT_HITS,             /* integer results one off */
  PARITY_FAULT_OVER_BOUND,       /* error just over the bound */
  PARITY_FAULT_UNDER_BOUND,      /* error just under the bound: must pass */
  PARITY_FAULT_NAN,              /* NaN instead of a number */
  PARITY_FAULT_INFINITY,         /* infinity instead of a number */
  PARITY_FAULT_NAN_LOST,         /* 0 instead of NaN */
  PARITY_FAULT_INFINITY_LOST,    /* the largest number instead of infinity */
  PARITY_FAULT_REFUSES_ALL,      /* takes no case */
  PARITY_FAULT_REFUSES_SOME,     /* a reason nobody listed */
  PARITY_FAULT_FAILS,            /* returns an error */
  PARITY_FAULT_IN_PLACE,         /* wrong when the output lies in its input */
  PARITY_FAULT_FUSION_VALUE,     /* a fused kernel that computes something else */
  PARITY_FAULT_FUSION_UNWRITTEN, /* a fused kernel that leaves out a value which is still needed */
  PARITY_FAULT_FUSION_NEVER,     /* a fused kernel that never claims anything */
  PARITY_FAULT_CODE,             /* a requantiser's first code is wrong: a network run op by op */
  PARITY_FAULT_ENGINE_LOSS,      /* an engine's last candidate has a loss that is one off */
  PARITY_FAULT_ENGINE_HITS,      /* its first candidate has other hits */
  PARITY_FAULT_ENGINE_LOGITS,    /* one logit is one off */
  PARITY_FAULT_ENGINE_BOUND,     /* nothing is dropped */
  PARITY_FAULT_ENGINE_PARENT,    /* with a parent the last candidate is taken for it */
  PARITY_FAULT_ENGINE_PAST_END,  /* one loss too many is written */
  PARITY_FAULT_ENGINE_NEVER,     /* the engine takes no network */
  PARITY_FAULT_UPDATE,           /* the optimizer changes one parameter too much */
  PARITY_FAULT_GRADIENT,         /* one weight's gradient is half as large again */
  PARITY_FAULT_QUEUES,           /* results are wrong when another queue ran in between */
  PARITY_FAULTS
} parity_fault;

void parity_faulty_select(parity_fault fault);
parity_fault parity_faulty_selected(void);
const qe_network_engine *const *parity_faulty_engines(const qe_device *device, int *count);
const qe_backend *parity_faulty_backend(void);

/* Every fault must turn the harness red with its own words, none must be green; prints what it saw. */
QE_CHECKED qe_status parity_faults(parity_report *report);

#endif
