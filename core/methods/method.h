/* Methods: ways to train a low-bit network. Each is a row in methods.c; all take the same setting. */
#ifndef QE_METHODS_METHOD_H
#define QE_METHODS_METHOD_H

#include "core/train/run.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_setting {
  qe_device *device;
  const qe_dataset *data;
  qe_model_spec spec;
  qe_train_options options;       /* of the method's own phase */
  qe_train_options float_options; /* of full-precision pre-training */
  const char *init;               /* model file to start from; NULL: random weights */
  qe_run *run;
} qe_setting;

typedef struct qe_result {
  qe_score start; /* the network at the method's own bits before training; images 0: there was none to speak of */
  qe_score final; /* after it, on the test images */
  bool quantized;
} qe_result;

typedef struct qe_method {
  const char *name, *summary;
  qe_status (*run)(const qe_setting *setting, qe_result *result);
} qe_method;

/* The method called `name`, or NULL. */
const qe_method *qe_method_find(const char *name);
/* By number; NULL past the last. */
const qe_method *qe_method_get(int index);

qe_status qe_train_qat(const qe_setting *setting, qe_result *result);

#ifdef __cplusplus
}
#endif
#endif
