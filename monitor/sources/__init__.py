"""Roads by which scans come beside the DICOM port: an Orthanc's feed, folders, DICOMweb."""
