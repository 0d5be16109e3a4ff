/* The steps of a pipeline: their options and methods, what each starts from, and whether it can. */
#ifndef QE_TOOLS_PIPELINE_STEPS_H
#define QE_TOOLS_PIPELINE_STEPS_H

#include "core/methods/chain.h"
#include "core/train/pipeline.h"
#include "tools/training.h"

typedef struct qe_step {
  qe_options *options;
  const qe_method *method;
  int from;         /* the step that it starts from; -1: none */
  qe_handed leaves; /* once checked */
  char *net;        /* leaves.spec.net, which outlives the setup */
} qe_step;

typedef struct qe_steps {
  const qe_options *options; /* of the whole */
  qe_step *step;
  int count;
  qe_pipeline list;
  qe_setup setup;
  int opened; /* the step for whose options the setup was opened; -1: it is closed */
} qe_steps;

/* Options and methods of the steps, and a check of all that can be known before training: every step's options, files
 * and network, and that it can start from the step before. */
QE_CHECKED qe_status qe_steps_open(const qe_options *options, qe_steps *steps);
void qe_steps_close(qe_steps *steps);

/* "step 2, polish" into text. */
enum { QE_STEP_TEXT = 80 };
const char *qe_step_label(const qe_steps *steps, int step, char text[QE_STEP_TEXT]);
/* The whole config, as loading it gives the same steps; NULL with a message. */
char *qe_steps_dump(const qe_steps *steps);

/* Gives what the step's options say of earlier steps ("step:NAME/FILE", and where init says nothing the step before)
 * the paths below `root`, the pipeline's folder or one like it. `need`, unless NULL, is called for each before. */
typedef qe_status (*qe_step_need)(void *context, const qe_steps *steps, int from, const char *path);
QE_CHECKED qe_status qe_steps_resolve(qe_steps *steps, int step, const char *root, qe_step_need need, void *context);
/* The step's training, on a setup that is opened anew where its options want another. */
QE_CHECKED qe_status qe_steps_training(qe_steps *steps, int step, qe_training *training);

#endif
