package mageplatform.training;

import hex.genmodel.MojoModel;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Tells how long one score by a MOJO takes: {@code java ... ScoreTimer MOJO SECONDS}, rows on standard input.
 *
 * <p>Rows are lines of fields between tabs, the first line their names; an empty field is missing, as is a level or a text
 * that the model does not know. Half of the time warms the compiler up; then whole rounds over the rows are measured.
 * Prints the mean nanoseconds of one row.
 */
public final class ScoreTimer {
  private ScoreTimer() {}

  public static void main(String[] arguments) throws Exception {
    MojoModel model = MojoModel.load(arguments[0]);
    long nanoseconds = (long) (Double.parseDouble(arguments[1]) * 1e9);
    List<double[]> rows = read(model);
    run(model, rows, nanoseconds / 2);
    System.out.println(run(model, rows, nanoseconds / 2));
  }

  private static double run(MojoModel model, List<double[]> rows, long nanoseconds) {
    double[] prediction = new double[model.getPredsSize()];
    long started = System.nanoTime();
    long scored = 0;
    do {
      for (double[] row : rows) {
        model.score0(row, prediction);
      }
      scored += rows.size();
    } while (System.nanoTime() - started < nanoseconds);
    return (double) (System.nanoTime() - started) / scored;
  }

  private static List<double[]> read(MojoModel model) throws Exception {
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    Map<String, Integer> places = new HashMap<>();
    for (String name : lines.readLine().split("\t", -1)) {
      places.put(name, places.size());
    }
    List<Map<String, Integer>> levels = new ArrayList<>();
    for (int column = 0; column < model.nfeatures(); column++) {
      levels.add(codes(model.getDomainValues(column)));
    }
    List<double[]> rows = new ArrayList<>();
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      String[] fields = line.split("\t", -1);
      double[] row = new double[model.nfeatures()];
      for (int column = 0; column < row.length; column++) {
        Integer place = places.get(model.getNames()[column]);
        row[column] = place == null ? Double.NaN : value(fields[place], levels.get(column));
      }
      rows.add(row);
    }
    return rows;
  }

  private static Map<String, Integer> codes(String[] domain) {
    if (domain == null) {
      return null;
    }
    Map<String, Integer> codes = new HashMap<>();
    for (int code = 0; code < domain.length; code++) {
      codes.put(domain[code], code);
    }
    return codes;
  }

  private static double value(String text, Map<String, Integer> codes) {
    if (codes != null) {
      Integer code = codes.get(text);
      return code == null ? Double.NaN : code;
    }
    return text.isEmpty() ? Double.NaN : Double.parseDouble(text);
  }
}
