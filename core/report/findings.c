/* What an evaluation of a run's network finds: the integer network beside its float twin, and the answers' mistakes. */
#include "core/base/alloc.h"
#include "core/data/loader.h"
#include "core/graph/integer.h"
#include "core/report/report_parts.h"

#include <stdio.h>
#include <string.h>

void qe_findings_free(qe_findings *found) {
  for (size_t i = 0; i < found->activations; i++) qe_free(found->activation[i].name);
  for (int i = 0; found->class_name && i < found->classes; i++) qe_free(found->class_name[i]);
  qe_free(found->class_name);
  qe_free(found->activation);
  qe_free(found->confusion);
  qe_free(found->pixels);
  qe_free(found->data);
  qe_free(found->source);
  qe_free(found->backend);
  memset(found, 0, sizeof *found);
}

const char *qe_class_text(const qe_findings *found, int class, char text[QE_NUMBER_TEXT]) {
  if (found->class_name && class >= 0 && class < found->classes) return found->class_name[class];
  snprintf(text, QE_NUMBER_TEXT, "%d", class);
  return text;
}

qe_score qe_report_score(const qe_report_run *run) {
  return run->found.integer.images > 0 ? run->found.integer : run->found.real;
}

/* ---- answers ---- */

static qe_status copy_names(qe_findings *found, const qe_dataset *data) {
  if (!data->class_names) return QE_OK;
  found->class_name = QE_NEW_ARRAY(char *, data->classes);
  if (!found->class_name) return QE_NO_MEMORY;
  for (int i = 0; i < data->classes; i++)
    if (!(found->class_name[i] = qe_strdup(data->class_names[i]))) return QE_NO_MEMORY;
  return QE_OK;
}

/* Into the list of the surest, in order, if it is one of them; the first of equals stays first. */
static void offer_mistake(qe_findings *found, qe_mistake mistake) {
  int at = found->mistakes;
  while (at > 0 && found->mistake[at - 1].confidence < mistake.confidence) at--;
  if (at == QE_MOST_MISTAKES) return;
  int last = found->mistakes < QE_MOST_MISTAKES ? found->mistakes++ : QE_MOST_MISTAKES - 1;
  for (int i = last; i > at; i--) found->mistake[i] = found->mistake[i - 1];
  found->mistake[at] = mistake;
}

static qe_status copy_pixels(qe_findings *found, const qe_dataset *data) {
  size_t each = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  found->height = data->height;
  found->width = data->width;
  found->channels = data->channels;
  found->pixels = qe_alloc(each * (size_t)found->mistakes + 1);
  if (!found->pixels) return QE_NO_MEMORY;
  int32_t index[QE_MOST_MISTAKES];
  for (int i = 0; i < found->mistakes; i++) index[i] = found->mistake[i].image;
  return qe_loader_copy(data, true, index, found->mistakes, found->pixels);
}

static qe_status sort_answers(qe_findings *found, const qe_dataset *data, const qe_answer *answer) {
  int classes = data->classes;
  found->confusion = QE_NEW_ARRAY(int64_t, (int64_t)classes * classes);
  if (!found->confusion) return QE_NO_MEMORY;
  for (int32_t i = 0; i < data->test_images; i++) {
    int32_t label = data->test_labels[i], predicted = answer[i].predicted;
    if (predicted < 0 || predicted >= classes) continue;
    found->confusion[(int64_t)label * classes + predicted]++;
    if (label != predicted) offer_mistake(found, (qe_mistake){i, label, predicted, answer[i].confidence});
  }
  return copy_pixels(found, data);
}

/* ---- networks ---- */

static qe_status check_data(const qe_report_run *run, const qe_dataset *data) {
  const qe_model_spec *spec = &run->model->spec;
  if (spec->height == data->height && spec->width == data->width && spec->channels == data->channels &&
      spec->classes == data->classes)
    return QE_OK;
  return qe_fail(QE_SHAPE, "the model takes %dx%dx%d images of %d classes, %s has %dx%dx%d of %d: choose other --data",
                 spec->height, spec->width, spec->channels, spec->classes, data->name, data->height, data->width,
                 data->channels, data->classes);
}

typedef struct answers {
  qe_answer *real, *integer;
} answers;

/* The float network (with fake quantisers), and its integer network where it has one. */
static qe_status evaluate_model(qe_report_run *run, qe_device *device, const qe_dataset *data, int32_t batch,
                                answers *a) {
  qe_findings *found = &run->found;
  qe_network *network = NULL;
  QE_TRY(check_data(run, data));
  QE_TRY(qe_evaluate_answers(device, run->model, data, batch, NULL, a->real, &found->real));
  qe_status status = qe_network_from_graph(run->model->graph, run->model->values, &network);
  if (status == QE_REFUSED) { /* not on integer grids throughout */
    qe_message_clear();
    return QE_OK;
  }
  if (status == QE_OK)
    status = qe_evaluate_network_answers(device, network, data, batch, NULL, a->integer, &found->integer);
  qe_network_free(network);
  return status;
}

static qe_status evaluate_network(qe_report_run *run, qe_device *device, const qe_dataset *data, int32_t batch,
                                  answers *a) {
  qe_findings *found = &run->found;
  QE_TRY(qe_evaluate_network_answers(device, run->network, data, batch, NULL, a->integer, &found->integer));
  if (run->start) QE_TRY(qe_evaluate_network(device, run->start, data, batch, NULL, &found->start));
  return run->teacher ? qe_evaluate_network(device, run->teacher, data, batch, NULL, &found->teacher) : QE_OK;
}

static void compare(qe_findings *found, const answers *a, int32_t images) {
  int64_t equal = 0;
  if (found->real.images == 0 || found->integer.images == 0) return;
  for (int32_t i = 0; i < images; i++) equal += a->real[i].predicted == a->integer[i].predicted;
  found->agreement = 100.0 * (double)equal / images;
}

static qe_status describe(qe_findings *found, const qe_device *device, const qe_dataset *data) {
  found->data = qe_strdup(data->name);
  found->source = qe_strdup(data->source);
  found->backend = qe_strdup(device->backend->name);
  found->classes = data->classes;
  found->subset = data->subset;
  return found->data && found->source && found->backend ? copy_names(found, data) : QE_NO_MEMORY;
}

qe_status qe_findings_make(qe_report_run *run, qe_device *device, const qe_dataset *data, int32_t batch) {
  answers a = {QE_NEW_ARRAY(qe_answer, data->test_images), QE_NEW_ARRAY(qe_answer, data->test_images)};
  qe_status status = a.real && a.integer ? describe(&run->found, device, data) : QE_NO_MEMORY;
  if (status == QE_OK)
    status = run->model ? evaluate_model(run, device, data, batch, &a) : evaluate_network(run, device, data, batch, &a);
  if (status == QE_OK) {
    compare(&run->found, &a, data->test_images);
    status = sort_answers(&run->found, data, run->found.integer.images > 0 ? a.integer : a.real);
  }
  if (status == QE_OK) status = qe_findings_activations(run, device, data);
  if (status != QE_OK) qe_findings_free(&run->found);
  qe_free(a.real);
  qe_free(a.integer);
  return status;
}
