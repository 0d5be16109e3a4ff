/* Opening devices and data sets, and writing graph dumps, as the options ask. */
#include "tools/setup.h"

#include "core/base/file.h"

#include <errno.h>
#include <string.h>

qe_status qe_setup_open(const qe_options *options, qe_setup *setup) {
  memset(setup, 0, sizeof *setup);
  qe_open_options open = {.threads = (int)qe_option_int(options, "threads"),
                          .precision = qe_precision_find(qe_option_text(options, "precision"))};
  qe_status status = qe_registry_open(&setup->registry);
  const char *backend = qe_option_text(options, "backend");
  int number = 0;
  if (status == QE_OK) status = qe_device_find(setup->registry, backend, qe_option_text(options, "device"), &number);
  if (status == QE_OK) status = qe_device_open(setup->registry, backend, number, &open, &setup->device);
  if (status == QE_OK)
    status = qe_dataset_open(qe_option_text(options, "data"), qe_option_text(options, "data-dir"), &setup->data);
  if (status != QE_OK) {
    qe_setup_close(setup);
    return status;
  }
  if (setup->data->subset && strcmp(setup->data->name, "cifar10-subset") != 0)
    fprintf(stderr,
            "note: the full data set was not found; this is the small built-in subset (%d training, %d test images), "
            "so accuracies say little. tools/get-cifar10 fetches the whole.\n",
            setup->data->train_images, setup->data->test_images);
  if (strcmp(setup->device->backend->name, "ref") == 0)
    fputs("note: running on the scalar reference backend, which is slow; 'qevo-gpu devices' says why others are not "
          "usable\n",
          stderr);
  return QE_OK;
}

void qe_setup_close(qe_setup *setup) {
  qe_dataset_free(setup->data);
  qe_device_close(setup->device);
  qe_registry_close(setup->registry);
  memset(setup, 0, sizeof *setup);
}

static qe_status write_dump(const char *path, const qe_graph *graph, void (*dump)(const qe_graph *, FILE *)) {
  if (!path) return QE_OK;
  FILE *file = fopen(path, "w");
  if (!file) return qe_file_failed(path, "write", errno);
  dump(graph, file);
  bool failed = ferror(file) != 0;
  if (fclose(file) != 0 || failed) return qe_fail(QE_IO, "%s: cannot write: is the disk full?", path);
  return QE_OK;
}

qe_status qe_dump_graph(const qe_options *options, const qe_graph *graph) {
  QE_TRY(write_dump(qe_option_text(options, "dump"), graph, qe_graph_dump));
  return write_dump(qe_option_text(options, "dump-dot"), graph, qe_graph_dot);
}
