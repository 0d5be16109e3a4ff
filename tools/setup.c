/* Opening devices and data sets, and writing graph dumps, as the options ask. */
#include "tools/setup.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/graph/text.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

qe_status qe_open_data(const qe_options *options, const char *name, double least_area, qe_dataset **data) {
  qe_image_options images = qe_image_defaults();
  images.side = (int)qe_option_int(options, "image-size");
  images.resize = (int)qe_option_int(options, "resize");
  images.least_area = least_area;
  images.threads = (int)qe_option_int(options, "loader-threads");
  images.prefetch = (int)qe_option_int(options, "prefetch");
  return qe_dataset_open_images(name, qe_option_text(options, "data-dir"), &images, data);
}

qe_status qe_hold_data(const qe_options *options, bool search, qe_dataset *data) {
  size_t limit = (size_t)qe_option_int(options, "data-memory") << 20;
  bool whole = data->images && data->images->options.least_area >= 1 && qe_dataset_bytes(data) <= limit;
  return search || whole ? qe_dataset_hold(data, limit) : QE_OK;
}

qe_status qe_setup_open(const qe_options *options, double least_area, qe_setup *setup) {
  memset(setup, 0, sizeof *setup);
  qe_open_options open = {.threads = (int)qe_option_int(options, "threads"),
                          .precision = qe_precision_find(qe_option_text(options, "precision"))};
  qe_status status = qe_registry_open(&setup->registry);
  const char *backend = qe_option_text(options, "backend");
  int number = 0;
  if (status == QE_OK) status = qe_device_find(setup->registry, backend, qe_option_text(options, "device"), &number);
  if (status == QE_OK) status = qe_device_open(setup->registry, backend, number, &open, &setup->device);
  if (status == QE_OK) status = qe_open_data(options, qe_option_text(options, "data"), least_area, &setup->data);
  if (status != QE_OK) {
    qe_setup_close(setup);
    return status;
  }
  if (setup->data->subset && strcmp(setup->data->name, "cifar10-subset") != 0)
    fprintf(stderr,
            "note: the full data set was not found; this is the small built-in subset (%d training, %d test images), "
            "so accuracies say little. 'qevo-gpu data get cifar10' fetches the whole.\n",
            setup->data->train_images, setup->data->test_images);
  if (strcmp(setup->device->backend->name, "ref") == 0)
    fputs("note: running on the scalar reference backend, which is slow; 'qevo-gpu devices' says why others are not "
          "usable\n",
          stderr);
  return QE_OK;
}

void qe_setup_close(qe_setup *setup) {
  qe_free(setup->net);
  qe_dataset_free(setup->data);
  qe_device_close(setup->device);
  qe_registry_close(setup->registry);
  memset(setup, 0, sizeof *setup);
}

bool qe_setup_serves(const qe_setup *setup, const qe_options *opened, const qe_options *options) {
  if (setup->data && setup->data->images) return false;
  for (size_t i = 0; i < qe_option_table_rows; i++) {
    const qe_option *row = &qe_option_table[i];
    if (!qe_option_is_of(row, "train") || !qe_option_is_of(row, "eval")) continue;
    const char *left = qe_option_text(opened, row->name), *right = qe_option_text(options, row->name);
    if (!left != !right || (left && strcmp(left, right) != 0)) return false;
  }
  return true;
}

qe_status qe_setup_net(const qe_options *options, qe_setup *setup, qe_model_spec *spec) {
  static const struct {
    const char *option;
    qe_text_bits bits;
  } row[] = {{"weight-bits", QE_TEXT_WEIGHT},
             {"act-bits", QE_TEXT_ACT},
             {"first-last-bits", QE_TEXT_FIRST_LAST},
             {"residual-bits", QE_TEXT_RESIDUAL}};
  unsigned open_bits;
  qe_free(setup->net);
  setup->net = NULL;
  if (strpbrk(spec->name, "./") && !qe_model_is_file(spec->name) && qe_file_exists(spec->name))
    return qe_fail(QE_USAGE,
                   "--model %s: names a network, as resnet20, or a description that ends in .net; a model to "
                   "start from is given by --init",
                   spec->name);
  if (!qe_model_is_file(spec->name)) return QE_OK;
  QE_TRY(qe_model_read_net(spec->name, spec, &open_bits, &setup->net));
  for (size_t i = 0; i < sizeof row / sizeof *row; i++)
    if (qe_option_source(options, row[i].option) == QE_FROM_COMMAND && !(open_bits >> row[i].bits & 1))
      return qe_fail(QE_USAGE, "--%s: %s says the bits of its layers itself; write bits=%s there to leave them open",
                     row[i].option, spec->name, qe_text_bits_name(row[i].bits));
  return QE_OK;
}

qe_status qe_file_meant(const char *given, const char *own, char **file) {
  bool folder = qe_folder_exists(given);
  *file = folder ? qe_path_join(given, own) : qe_strdup(given);
  if (!*file) return QE_NO_MEMORY;
  if (!folder) return QE_OK;
  if (qe_file_exists(*file)) {
    fprintf(stderr, "note: %s is a folder: %s in it is taken\n", given, own);
    return QE_OK;
  }
  qe_free(*file);
  *file = NULL;
  return qe_fail(QE_USAGE, "%s is a folder: name a file; it has no %s, as a run's folder would", given, own);
}

qe_status qe_refuse_overwrite(const char *out, const char *in) {
  struct stat to, from;
  if (stat(out, &to) != 0) return QE_OK;
  if (S_ISDIR(to.st_mode)) return qe_file_fail(out, "write", EISDIR);
  if (stat(in, &from) != 0 || to.st_dev != from.st_dev || to.st_ino != from.st_ino) return QE_OK;
  return qe_fail(QE_USAGE, "%s is the file that is read: what is written would take its place; choose another name",
                 out);
}

qe_status qe_check_place(const char *path) {
  if (qe_folder_exists(path)) return qe_file_fail(path, "write", EISDIR);
  char *folder = qe_path_folder(path);
  if (!folder) return QE_NO_MEMORY;
  int error = access(folder, W_OK | X_OK) == 0 ? 0 : errno;
  qe_free(folder);
  return error ? qe_file_fail(path, "write", error) : QE_OK;
}

static qe_status write_dump(const char *path, const qe_graph *graph, void (*dump)(const qe_graph *, FILE *)) {
  if (!path) return QE_OK;
  FILE *file = fopen(path, "w");
  if (!file) return qe_file_fail(path, "write", errno);
  dump(graph, file);
  bool failed = ferror(file) != 0;
  if (fclose(file) != 0 || failed) return qe_fail(QE_IO, "%s: cannot write: is the disk full?", path);
  return QE_OK;
}

qe_status qe_dump_graph(const qe_options *options, const qe_graph *graph) {
  QE_TRY(write_dump(qe_option_text(options, "dump"), graph, qe_graph_dump));
  return write_dump(qe_option_text(options, "dump-dot"), graph, qe_graph_dot);
}

void qe_read_augmentation(const qe_options *options, qe_train_options *train) {
  train->pad = (int32_t)qe_option_int(options, "pad");
  train->flip = qe_option_flag(options, "flip");
  train->cutout = (int32_t)qe_option_int(options, "cutout");
  train->jitter[QE_JITTER_BRIGHTNESS] = qe_option_real(options, "brightness");
  train->jitter[QE_JITTER_CONTRAST] = qe_option_real(options, "contrast");
  train->jitter[QE_JITTER_SATURATION] = qe_option_real(options, "saturation");
  train->mixup = qe_option_real(options, "mixup");
}
