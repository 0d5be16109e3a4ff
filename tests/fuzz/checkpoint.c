/* Checkpoints: a run folder is opened to be resumed, a trainer of a small network takes the state and goes
 * on from there to the end of the epoch. */
#include "core/base/file.h"
#include "core/train/run.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static qe_trainer *trainer;
static qe_registry *registry;
static qe_device *device;
static qe_model *model;
static qe_dataset *data_set;

static const char network[] = "image = input()\nflat = flatten(image)\nfc = linear(flat) channels=classes bias\n";

static void close_all(void) {
  qe_trainer_free(trainer);
  qe_model_free(model);
  qe_dataset_free(data_set);
  qe_device_close(device);
  qe_registry_close(registry);
}

static void open_all(void) {
  qe_open_options open = {.threads = 1};
  qe_train_options options = qe_train_defaults();
  qe_model_spec spec = qe_model_default("mlp");
  spec.net = network;
  spec.height = spec.width = 2;
  spec.channels = 1;
  spec.classes = 3;
  FUZZ_REQUIRE(qe_registry_open(&registry) == QE_OK && qe_device_open(registry, "ref", 0, &open, &device) == QE_OK);
  data_set = calloc(1, sizeof *data_set);
  FUZZ_REQUIRE(data_set);
  *data_set = (qe_dataset){.classes = 3, .height = 2, .width = 2, .channels = 1};
  FUZZ_REQUIRE(qe_dataset_alloc(data_set, 32, 8) == QE_OK);
  memset(data_set->train_labels, 0, 32 * sizeof *data_set->train_labels);
  memset(data_set->test_labels, 0, 8 * sizeof *data_set->test_labels);
  memset(data_set->train_pixels, 9, 32 * 4);
  memset(data_set->test_pixels, 9, 8 * 4);
  FUZZ_REQUIRE(qe_model_new(&spec, 1, &model) == QE_OK);
  options.batch = 8;
  options.pad = 0;
  FUZZ_REQUIRE(qe_trainer_new(device, model, data_set, &options, &trainer) == QE_OK);
  atexit(close_all);
}

static void take(const qe_run *run) {
  const qe_tensors *tensors = qe_run_resumed(run);
  if (!tensors || qe_trainer_take(trainer, tensors, "input") != QE_OK) return;
  FUZZ_REQUIRE(qe_trainer_steps_done(trainer) <= qe_trainer_epoch_steps(trainer));
  FUZZ_REQUIRE(qe_trainer_epochs_done(trainer) >= 0);
  (void)!qe_trainer_epoch(trainer, NULL, NULL); /* it may diverge */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  qe_run *run = NULL;
  qe_run_options options = {.folder = fuzz_folder(), .config = "seed: 1\n", .resume = true};
  qe_tensors *tensors = fuzz_tensors(data, size);
  if (!tensors) return 0;
  if (!trainer) open_all();
  FUZZ_REQUIRE(qe_tensors_write(tensors, fuzz_path("checkpoint.safetensors")) == QE_OK);
  qe_tensors_free(tensors);
  fuzz_write(fuzz_path("metrics.jsonl"), "{}\n", 3);
  fuzz_write(fuzz_path("outside"), "kept", 4);
  if (qe_run_open(&options, NULL, &run) == QE_OK) take(run);
  qe_run_close(run);
  FUZZ_REQUIRE(qe_file_bytes(fuzz_path("outside")) == 4);
  return 0;
}
