/* What one training hands on to the next, and whether that can start from it: for pipelines, before any is trained. */
#ifndef QE_METHODS_CHAIN_H
#define QE_METHODS_CHAIN_H

#include "core/methods/method.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_handed {
  bool network;       /* an integer network, which has codes alone; else a model */
  qe_model_spec spec; /* of the model; of a network the model that it is made of. Its texts must outlive it */
} qe_handed;

/* What a run of the setting leaves; `from`: what it starts from, NULL: its own init or random weights. */
qe_handed qe_method_hands_on(const qe_method *method, const qe_setting *setting, const qe_handed *from);

/* QE_USAGE unless the method can start from it: gradients need the float weights of a model, of the same network; a
 * search needs a network that can be made of integers. `label` is what hands it on ("step 1, qat"), for messages. */
QE_CHECKED qe_status qe_method_check_start(const qe_method *method, const qe_setting *setting, const qe_handed *from,
                                           const char *label);

/* Writes a file of the kind that is handed on, with values that mean nothing: for plans. */
QE_CHECKED qe_status qe_handed_write(const qe_handed *handed, const char *path);

#ifdef __cplusplus
}
#endif
#endif
