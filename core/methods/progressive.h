/* Progressive quantisation (Zhuang et al., "Effective Training of Convolutional Neural Networks with Low-bitwidth
 * Weights and Activations", 2021): stages of training at fewer and fewer bits, each from the last one's network. */
#ifndef QE_METHODS_PROGRESSIVE_H
#define QE_METHODS_PROGRESSIVE_H

#include "core/models/models.h"
#include "core/train/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As the options are written (progressive_options.def); NULL: the default. */
typedef struct qe_progressive_setting {
#define QE_PROGRESSIVE_TEXT(member, name, initial, metavar, help) const char *member;
#include "core/methods/progressive_options.def"
#undef QE_PROGRESSIVE_TEXT
} qe_progressive_setting;

enum { QE_PROGRESSIVE_STAGES = 12 };

typedef struct qe_progressive_stage {
  const char *name; /* "w4a4": the phase; static */
  int weights, activations;
  int32_t epochs;
  double rate;
} qe_progressive_stage;

typedef struct qe_progressive_course {
  qe_progressive_stage stage[QE_PROGRESSIVE_STAGES];
  int stages;
} qe_progressive_course;

/* Names of schemes that stand for stages, "precision"; NULL past the last. */
const char *qe_progressive_scheme(int index);

/* The stages of a run that ends at `bits`, in options.epochs epochs unless each stage has its own. QE_USAGE where the
 * texts are no stages, more or fewer than the epochs and rates, or end at other bits. */
QE_CHECKED qe_status qe_progressive_read(const qe_progressive_setting *setting, const qe_bits *bits,
                                         const qe_train_options *options, qe_progressive_course *course);

/* The bits of a stage of a run that ends at `end`; exceptions by layer, skip connections, first and last layer are no
 * lower than at the end and no lower than the stage. `layers` is new text (qe_free) that stage->layers points to, or
 * NULL. */
QE_CHECKED qe_status qe_progressive_bits(const qe_progressive_stage *stage, const qe_bits *end, qe_bits *bits,
                                         char **layers);

#ifdef __cplusplus
}
#endif
#endif
