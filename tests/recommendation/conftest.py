"""Its being here puts `made_assessments` on the path of the tests below."""
