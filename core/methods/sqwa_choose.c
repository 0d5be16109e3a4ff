/* Which captured models of SQWA are averaged: all, the best, or a greedy soup (Wortsman et al. 2022, recipe 1). */
#include "core/base/alloc.h"
#include "core/methods/sqwa_parts.h"

#include <string.h>

static const char *const names[QE_SQWA_CHOICES] = {
#define X(id, name) name,
    QE_SQWA_CHOICE_LIST(X)
#undef X
};

qe_sqwa_choice qe_sqwa_choice_find(const char *name) {
  int choice = 0;
  while (choice < QE_SQWA_CHOICES && strcmp(names[choice], name) != 0) choice++;
  return (qe_sqwa_choice)choice;
}

static qe_status held_out_loss(const qe_sqwa *s, const qe_model *model, double *loss) {
  qe_score score;
  QE_TRY(qe_evaluate_held_out(s->setting->device, model, s->setting->data, &s->setting->options, &score));
  *loss = score.loss;
  return QE_OK;
}

/* The list in the order of held-out loss, the earlier capture first where two are equal. */
static qe_status rank(const qe_sqwa *s, qe_capture_list *list, double *loss) {
  for (int32_t i = 0; i < list->count; i++) {
    qe_model *model;
    int32_t number = list->number[i], at = i;
    double own;
    QE_TRY(qe_captures_get(&s->captures, number, &model));
    qe_status status = held_out_loss(s, model, &own);
    qe_model_free(model);
    QE_TRY(status);
    for (; at > 0 && own < loss[at - 1]; at--) {
      loss[at] = loss[at - 1];
      list->number[at] = list->number[at - 1];
    }
    loss[at] = own;
    list->number[at] = number;
  }
  return QE_OK;
}

static void sort(qe_capture_list *list) {
  for (int32_t i = 1; i < list->count; i++)
    for (int32_t at = i; at > 0 && list->number[at] < list->number[at - 1]; at--) {
      int32_t number = list->number[at];
      list->number[at] = list->number[at - 1];
      list->number[at - 1] = number;
    }
}

static qe_status loss_of_average(const qe_sqwa *s, const qe_capture_list *list, double *loss) {
  qe_average *average = NULL;
  qe_model *model = NULL;
  qe_status status = qe_sqwa_average(s, list, QE_AVERAGE_CODES, &average);
  if (status == QE_OK) status = qe_sqwa_requantise(s, average, &model);
  if (status == QE_OK) status = held_out_loss(s, model, loss);
  qe_model_free(model);
  qe_average_free(average);
  return status;
}

/* From the best capture on, each that does not make the average's held-out loss worse. `ranked` becomes the soup. */
static qe_status make_soup(const qe_sqwa *s, qe_capture_list *ranked, double loss) {
  int32_t all = ranked->count;
  ranked->count = 1;
  for (int32_t i = 1; i < all; i++) {
    double with;
    ranked->number[ranked->count] = ranked->number[i];
    ranked->count++;
    QE_TRY(loss_of_average(s, ranked, &with));
    if (with <= loss)
      loss = with;
    else
      ranked->count--;
  }
  return QE_OK;
}

qe_status qe_sqwa_choose(const qe_sqwa *s, qe_capture_list *list) {
  const qe_sqwa_options *options = &s->setting->sqwa;
  QE_TRY(qe_capture_list_read(options->subset, s->captures.count, list));
  if (options->choose == QE_SQWA_CHOOSE_ALL) return QE_OK;
  double *loss = QE_NEW_ARRAY(double, list->count + 1);
  qe_status status = loss ? rank(s, list, loss) : QE_NO_MEMORY;
  if (status == QE_OK && options->choose == QE_SQWA_CHOOSE_SOUP) status = make_soup(s, list, loss[0]);
  if (options->choose == QE_SQWA_CHOOSE_BEST && options->best < list->count) list->count = options->best;
  sort(list);
  qe_free(loss);
  if (status != QE_OK) qe_capture_list_free(list);
  return status;
}
