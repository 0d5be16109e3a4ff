/* One training of the command: of options its setting, and the run. */
#ifndef QE_TOOLS_TRAINING_H
#define QE_TOOLS_TRAINING_H

#include "core/methods/method.h"
#include "tools/setup.h"

typedef struct qe_training {
  qe_options *options;
  const qe_method *method;
  qe_setup *setup;
  qe_setting setting; /* without a run */
  bool bare;          /* leaves no report.html */
} qe_training;

/* Finds the files that the options name, opens the setup unless it is open, fills in the method's defaults, reads the
 * setting and checks it. Options, setup and method must outlive the training; also after a failure the caller closes
 * the setup. */
QE_CHECKED qe_status qe_training_open(qe_options *options, const qe_method *method, qe_setup *setup,
                                      qe_training *training);
/* Where the options want the run. Its texts are those of the options, and `config`. */
qe_run_options qe_training_place(const qe_options *options, const char *config);
/* An object with scores and what the run was of, not closed yet. */
void qe_training_write_result(qe_json *json, const qe_training *training, const qe_result *result);
/* Sweeps the learning rate, with progress on stderr; see tools/find_rate.h. */
QE_CHECKED qe_status qe_training_find_rate(const qe_training *training);
/* Trains, with progress on stderr; leaves result.json and, unless it is bare, report.html in the folder. */
QE_CHECKED qe_status qe_training_run(const qe_training *training, const qe_run_options *place, qe_result *result);

#endif
