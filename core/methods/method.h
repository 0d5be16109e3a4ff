/* Methods: ways to train a low-bit network. Each is a row in methods.c; all take the same setting. */
#ifndef QE_METHODS_METHOD_H
#define QE_METHODS_METHOD_H

#include "core/evolve/stages.h"
#include "core/methods/gradfreebits.h"
#include "core/methods/progressive.h"
#include "core/methods/sqwa.h"
#include "core/train/find_rate.h"
#include "core/train/plan.h"
#include "core/train/run.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of the methods that search in integers. */
typedef struct qe_search_setting {
  const char *stages;           /* their names, in order, with commas between */
  const char *evolve;           /* what evolves: "weights", "requantisers", or both with a comma between */
  const char *teacher;          /* model or integer network file; NULL: the float model to start from, if it is one */
  qe_evolution_options options; /* of the stages */
  qe_fitness_options fitness;   /* teacher and seed are filled in by the method */
  int64_t budget;               /* candidate-images; 0: no bound */
  int32_t save_every;           /* generations between checkpoints; 0: when a stage ends or the run is stopped */
} qe_search_setting;

typedef struct qe_setting {
  qe_device *device;
  const qe_dataset *data;
  qe_model_spec spec;
  qe_train_options options;       /* of the method's own phase */
  qe_train_options float_options; /* of full-precision pre-training */
  qe_search_setting search;
  qe_progressive_setting progressive;
  qe_sqwa_options sqwa;
  qe_gradfreebits_options gradfreebits; /* of that method */
  const char *init;                     /* model file to start from; NULL: random weights */
  qe_run *run;
} qe_setting;

typedef struct qe_result {
  qe_score start;   /* the network at the method's own bits before training; images 0: there was none to speak of */
  qe_score final;   /* after it, on the test images */
  qe_score integer; /* its integer network's, on the same; images 0: it has none, or `final` is of one itself */
  bool quantized;
  /* Of searches: the same two networks on the held-out training images, whose images are 0 when there are none, what
   * the search spent, and how long it took. */
  qe_score start_held_out, held_out;
  bool searched;
  int64_t candidate_images;
  double seconds;
} qe_result;

typedef struct qe_method {
  const char *name, *summary;
  bool searches; /* integer networks, without gradients: takes setting->search */
  /* What of the setting can be known to be wrong before anything is read or trained; NULL: nothing. */
  qe_status (*check)(const qe_setting *setting);
  qe_status (*run)(const qe_setting *setting, qe_result *result);
  /* What `run` will take, as far as a few steps tell; setting->run is NULL. */
  qe_status (*plan)(const qe_setting *setting, qe_plan *plan);
  /* The bits of its first phase of quantised training; bits->layers points to *layers, new text or NULL. NULL: those
   * of setting->spec. */
  qe_status (*first)(const qe_setting *setting, qe_bits *bits, char **layers);
} qe_method;

/* What would fail later: options of training, a teacher's file, and method->check. */
QE_CHECKED qe_status qe_method_check(const qe_method *method, const qe_setting *setting);
/* The method called `name`, or NULL. */
const qe_method *qe_method_find(const char *name);
/* By number; NULL past the last. */
const qe_method *qe_method_get(int index);

/* Whether anything of a network with these bits is quantised. */
bool qe_method_quantizes(const qe_bits *bits);
/* Parameters of a model's tensors into the model; steps of other bits or rules are forgotten, to be fitted anew.
 * QE_USAGE when they are another model's. `file` is for messages. */
QE_CHECKED qe_status qe_method_take_tensors(qe_model *model, const qe_tensors *tensors, const char *file);
/* The same of the file setting->init. */
QE_CHECKED qe_status qe_method_take_init(const qe_setting *setting, qe_model *model);

/* The model as a run of the setting starts from it: of setting->init, or random. */
QE_CHECKED qe_status qe_method_start_model(const qe_setting *setting, qe_model **model);
/* What a sweep of the learning rate was made of. */
typedef struct qe_swept {
  const char *option;       /* whose rate it is: "rate", or "float-rate" of full-precision training that comes first */
  int weights, activations; /* bits; QE_FLOAT_BITS: float */
  bool stage;               /* the first of several */
} qe_swept;

/* Sweeps the learning rate of the first phase that a gradient method would run. */
QE_CHECKED qe_status qe_method_find_rate(const qe_method *method, const qe_setting *setting,
                                         qe_progress_function progress, void *context, qe_swept *of,
                                         qe_rate_sweep *sweep);

qe_status qe_train_coevolution(const qe_setting *setting, qe_result *result);
qe_status qe_train_gradfreebits(const qe_setting *setting, qe_result *result);
qe_status qe_train_progressive(const qe_setting *setting, qe_result *result);
qe_status qe_train_qat(const qe_setting *setting, qe_result *result);
qe_status qe_train_sqwa(const qe_setting *setting, qe_result *result);
qe_status qe_check_coevolution(const qe_setting *setting);
qe_status qe_check_gradfreebits(const qe_setting *setting);
qe_status qe_check_progressive(const qe_setting *setting);
qe_status qe_check_sqwa(const qe_setting *setting);
qe_status qe_progressive_first(const qe_setting *setting, qe_bits *bits, char **layers);
qe_status qe_plan_coevolution(const qe_setting *setting, qe_plan *plan);
qe_status qe_plan_gradfreebits(const qe_setting *setting, qe_plan *plan);
qe_status qe_plan_progressive(const qe_setting *setting, qe_plan *plan);
qe_status qe_plan_qat(const qe_setting *setting, qe_plan *plan);
qe_status qe_plan_sqwa(const qe_setting *setting, qe_plan *plan);

#ifdef __cplusplus
}
#endif
#endif
